// One at a time: some tests measure processor time, and the machines in others have threads of their own.
[assembly: Xunit.v3.Parallelization(Mode = Xunit.Sdk.ParallelMode.None)]
