"""Eyes load without torch's compiler, and the compiler is whole when somebody asks for it later."""

import subprocess
import sys

CHECK = """
import sys
import torch
from vision import DeepEncoder, DeepEncoderConfig

eyes = DeepEncoder(DeepEncoderConfig.micro(out_dim=16)).eval()
loaded = [name for name in sys.modules if name.startswith("torch._dynamo")]
assert not loaded, loaded[:3]

import importlib
import torch._dynamo.utils
roi = importlib.import_module("torchvision.ops.roi_align")
assert torch._dynamo.utils.is_compile_supported("cpu") == roi.is_compile_supported("cpu")
assert torch._dynamo.disable
double = torch.compile(lambda x: 2 * x, backend="eager")
assert double(torch.ones(3)).sum() == 6
print("whole")
"""


def test_the_compiler_stays_away_until_it_is_wanted() -> None:
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "whole"
