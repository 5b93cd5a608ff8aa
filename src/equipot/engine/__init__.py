"""The native engine from Python: energies and forces of an exported model (.eqn), by numpy and ctypes alone."""
