"""What shape is the layer?"""
