"""A WASI 0.2 command: prints its arguments, and fails if told to. Imports run while it is built, not when it runs."""
import sys

from wit_world import exports
from componentize_py_types import Err


class Run(exports.Run):
    def run(self) -> None:
        print("hello from", *sys.argv)
        if "fail" in sys.argv:
            raise Err(None)
