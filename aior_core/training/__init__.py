"""How the bundled weights are made: data, losses, the stages, and a time-boxed, resumable loop."""
