namespace VirtPS.Strategy.Para.Shared;

/// <summary>Where an end of a paravirtual device stands (xen/include/public/io/xenbus.h).</summary>
internal enum XenbusState
{
    Unknown = 0,
    Initialising = 1,
    InitWait = 2,
    Initialised = 3,
    Connected = 4,
    Closing = 5,
    Closed = 6,
}
