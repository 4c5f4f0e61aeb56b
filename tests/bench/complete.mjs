// P7b: node with llama.cpp inside, as node-llama-cpp puts it there: loads a model and makes five completions.
//
//   node complete.mjs FOLDER MODEL    FOLDER holds node_modules/node-llama-cpp; prints each completion's length
import { pathToFileURL } from "node:url";

const [folder, modelPath] = process.argv.slice(2);
const { getLlama, LlamaCompletion, LlamaLogLevel } = await import(
  pathToFileURL(`${folder}/node_modules/node-llama-cpp/dist/index.js`));

const llama = await getLlama({ gpu: false, build: "never", progressLogs: false, logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath });
const context = await model.createContext({ contextSize: 512, threads: 1 });
const completion = new LlamaCompletion({ contextSequence: context.getSequence() });
for (let number = 0; number < 5; ++number) {
  const text = await completion.generateCompletion(`why is the sky ${number}`, { maxTokens: 64, temperature: 0 });
  console.log(text.length);
}
await llama.dispose();
