"""What the C library does with freed memory, and when Python looks for cycles."""

import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from heimdall_jax.memory import OBJECTS_OF_A_COLLECTION
from tests.documentation import ROOT

PROGRAM = """
import ctypes, resource, threading
from heimdall_jax.memory import reuse, trim

def work(libc):
    block = ctypes.c_void_p(libc.malloc(SIZE))
    ctypes.memset(block, 1, SIZE)
    libc.free(block)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=work, args=(libc,))
    thread.start()
    thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

SIZE = 2**26
reuse()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
counts = [faults(), faults()]
trim()
print(*counts, faults())
"""


SCRIPT = """
import gc
from heimdall_jax.command import run_script

run_script(lambda _: print(gc.isenabled(), gc.get_threshold()[0]))
"""

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(HUGE_PAGES.exists() and "[always]" in HUGE_PAGES.read_text(), reason="pages are not small here")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory")
def test_memory_of_a_thread_is_used_again_until_it_is_given_back():
    said = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    first, second, third = map(int, said.split())
    pages = 2**26 // resource.getpagesize()
    assert first > pages // 2
    assert second < pages // 100
    assert third > pages // 2


def test_scripts_look_for_cycles_seldom():
    said = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said == f"True {OBJECTS_OF_A_COLLECTION}\n"
