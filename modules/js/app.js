// A WASI 0.2 command: prints its arguments, and fails if told to.
import { getArguments } from 'wasi:cli/environment@0.2.12';

export const run = {
  run() {
    const args = getArguments();
    console.log('hello from', args.join(' '));
    if (args.includes('fail')) throw undefined;
  },
};
