"""How is it stored?"""
