// Stacks as a tree, and what of it is worth drawing. No DOM here.
import { baseName, frameName } from './format.js';

// Node 0 is the root. A child comes after its parent, so one pass from the end adds everything up.
export class StackTrie {
  // `stacks`: for each, indices into `frames`, innermost first. From the outermost frame inwards, or,
  // with `reverse`, from the frame to look at outwards.
  constructor(frames, stacks, reverse) {
    this.names = [];
    this.modules = [];
    this.plumbing = [];
    const idOfName = new Map();
    // Lines of one function are one node: who looks at the whole wants functions.
    this.idOfFrame = frames.map((frame) => {
      const name = frameName(frame);
      const key = `${name}\n${frame.module ?? ''}`;
      let id = idOfName.get(key);
      if (id === undefined) {
        id = this.names.length;
        idOfName.set(key, id);
        this.names.push(name);
        this.modules.push(baseName(frame.module));
        this.plumbing.push(frame.plumbing === true);
      }
      return id;
    });
    this.parent = [-1];
    this.nameOf = [-1];
    this.leafOf = new Int32Array(stacks.length);
    const children = [new Map()];
    const child = (node, id) => {
      let found = children[node].get(id);
      if (found === undefined) {
        found = this.parent.length;
        this.parent.push(node);
        this.nameOf.push(id);
        children.push(new Map());
        children[node].set(id, found);
      }
      return found;
    };
    stacks.forEach(({ frames: stack, blamed_frame: blamed }, index) => {
      let node = 0;
      if (reverse) {
        for (let i = blamed ?? 0; i < stack.length; ++i) node = child(node, this.idOfFrame[stack[i]]);
      } else {
        for (let i = stack.length - 1; i >= 0; --i) node = child(node, this.idOfFrame[stack[i]]);
      }
      this.leafOf[index] = node;
    });
    this.children = children.map((map) => [...map.values()]);
  }

  // `values` by stack, none negative. Sums by node.
  sums(values) {
    const sums = new Float64Array(this.parent.length);
    values.forEach((value, index) => {
      sums[this.leafOf[index]] += value;
    });
    for (let node = sums.length - 1; node > 0; --node) sums[this.parent[node]] += sums[node];
    return sums;
  }

  // The tree below `top` for the flame graph, with the frames around it on the way; nodes of less than
  // `least` of it are left out, as nobody could see them.
  tree(sums, top, least, rootName) {
    const smallest = sums[top] * least;
    const make = (node) => {
      const made = {
        node,
        name: node === 0 ? rootName : this.names[this.nameOf[node]],
        module: node === 0 ? '' : this.modules[this.nameOf[node]],
        plumbing: node !== 0 && this.plumbing[this.nameOf[node]],
        value: sums[node],
        children: [],
      };
      for (const child of this.children[node]) {
        if (sums[child] > 0 && sums[child] >= smallest) made.children.push(make(child));
      }
      return made;
    };
    let tree = make(top);
    for (let node = this.parent[top]; node >= 0; node = this.parent[node]) {
      tree = {
        node,
        name: node === 0 ? rootName : this.names[this.nameOf[node]],
        module: node === 0 ? '' : this.modules[this.nameOf[node]],
        plumbing: false,
        around: true,
        value: sums[top],
        children: [tree],
      };
    }
    return tree;
  }
}
