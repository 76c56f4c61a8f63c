"""The programs of the environment that runs the tests are found first, also where it was not activated."""

import os
import sys

os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
