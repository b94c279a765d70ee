"""Networks as functions of tensors. Every class takes `operations` (`torch.nn` or a `comfy.ops` class),
`device` and `dtype`."""
