"""Can this potential be trusted: physics checks, predictions beside their references, and the report page."""
