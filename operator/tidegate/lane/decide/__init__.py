"""The planner of a lane: from one snapshot to what should happen next. Pure."""
