"""The options of the training commands: their types, their groups, and the records they become."""
