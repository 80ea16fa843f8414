"""A build spread over the workers of a Dask cluster. Nothing here is imported unless `build --engine dask` asks for it.

doit stays the driver: it orders the tasks, says why they run and writes pointers. Where the store has no record of a
step's key, the step is sent to a worker. It finds its inputs in its store, runs the step and answers with a pointer.
Weights never pass through Dask.
"""
