using VirtPS.Worker;
using VirtPS.Worker.Machines;

return WorkerProgram.Run(args, new EngineMachineFactory());
