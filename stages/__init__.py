"""Scripts of the stages. `python -m stages.NAME` looks for no garbage before `run_main`: imports create hardly any."""

import atexit
import gc
import sys

if sys.argv[0] == "-m":  # as Python says while it looks for the module to run; not where a stage is imported
    gc.disable()
    atexit.register(gc.freeze)  # Python looks for garbage several times while it exits
