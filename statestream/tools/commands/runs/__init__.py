"""The commands below `statestream runs`, one module for each."""
