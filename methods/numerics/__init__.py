"""Shared numerical kernels: blocked similarity, nearest neighbours, k-means.

Here belongs arithmetic on arrays that more than one method needs and that knows nothing of instruction data. What a
number means for a data set stands in the rooms that call these kernels.
"""
