"""Commands of `statestream`, a file each; cli.py registers them."""
