"""From files to checked graphs: readers, neighbour lists, reference energies, splits, statistics and preflight."""
