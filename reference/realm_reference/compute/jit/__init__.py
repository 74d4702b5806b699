"""The compiled CPU path: quantised weights in packed layouts, and one step function run by a team of threads.

Plain arrays, packed matrices and dimensions only; nothing here knows a file format or what a model is called.
`layout` says how matrices lie in memory and needs NumPy alone; everything else needs Numba.
"""
