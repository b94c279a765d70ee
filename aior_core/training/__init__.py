"""How the bundled weights are made: data, losses, the five stages, and a time-boxed, resumable loop."""
