"""Environment of processes that compute with many large arrays."""

#: Settings with which glibc keeps freed memory for the next arrays. By default the pages of every large array are given
#: back and cleared anew: a third of the time in which the inputs of a clip are computed.
MALLOC_ENV = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_TOP_PAD_": str(2**26)}
