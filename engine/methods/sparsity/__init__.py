"""Which weights stay?"""
