"""Windows of the DAFF Sampler as small as asked for, on the graph tests' server alone: the pictures of tests
are small.

Set before every prompt, when the pack has been loaded for certain.
"""

import sys

from server import PromptServer

NODE_CLASS_MAPPINGS = {}


def as_asked(prompt: dict) -> dict:
    for name, module in list(sys.modules.items()):
        if name.endswith("aior_core.host.sampling"):
            module.LEAST_WINDOW = 0
    return prompt


PromptServer.instance.add_on_prompt_handler(as_asked)
