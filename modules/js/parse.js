// A WASI 0.2 command around acorn, an npm package by others: parses its arguments as JavaScript, and prints the tree.
import { getArguments } from 'wasi:cli/environment@0.2.12';
import { parse } from './acorn.mjs';

export const run = {
  run() {
    const program = getArguments().slice(1).join(' ');
    const tree = parse(program, { ecmaVersion: 2022 });
    console.log(tree.body.map((node) => node.type).join(' '));
  },
};
