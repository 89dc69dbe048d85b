"""The payload of ExecuTorch's Vulkan delegate: its graph, what it holds, and a reference executor of it."""
