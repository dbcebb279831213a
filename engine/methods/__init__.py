"""One file per method, in the folder of its slot; `registry` finds them all."""
