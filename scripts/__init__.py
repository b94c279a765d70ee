"""The parts of the command line. Standard library only: they run before anything is installed."""
