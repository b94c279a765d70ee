"""AIOR without ComfyUI's node interface. ARCHITECTURE.md describes the packages and their imports."""
