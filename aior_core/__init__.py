"""What AIOR knows, apart from ComfyUI's node interface. See ARCHITECTURE.md for the rooms and who may import whom."""
