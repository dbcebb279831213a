"""What layers lose by being changed, told before anything is run: see `proxies`."""
