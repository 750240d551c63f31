"""The app keeps its embedded queue and results in a folder of the tests'."""

import os
import tempfile

os.environ["HEIMDALL_JOBS"] = tempfile.mkdtemp(prefix="heimdall-jobs-")  # read when the app is imported
