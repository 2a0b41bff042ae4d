"""`statestream journal`: commands that look at a journal, move it or repair it, a module each."""
