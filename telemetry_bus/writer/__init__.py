"""The writer's side: receiving jobs from producers and from the journals of the dead, in the order of each stream."""
