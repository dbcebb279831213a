"""How many bits is a weight?"""
