"""What people read and look at: text, tables, charts, heat maps. Nothing here needs ComfyUI."""
