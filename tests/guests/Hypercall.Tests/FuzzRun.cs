using System.Buffers.Binary;
using System.Security.Cryptography;
using VirtPS.Engine;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Rings;
using VirtPS.Strategy.Para;
using VirtPS.Strategy.Para.Mmu;

namespace VirtPS.Hypercall.Tests;

/// <summary>How one life of the guest ended.</summary>
internal enum FuzzEnd
{
    /// <summary>It has done all batches.</summary>
    Completed,

    /// <summary>It switched itself off, or the VMM ended it for what it did: its own doing.</summary>
    Stopped,

    /// <summary>It no longer gets to its records: asleep for ever, or its code is gone.</summary>
    Stuck,

    /// <summary>It turned the pages that the test writes into something else.</summary>
    LostItsRecords,
}

/// <summary>One guest from power-on to its end, fed with batches of calls.</summary>
internal sealed class FuzzRun : IDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromMilliseconds(400);

    private readonly FuzzGuest _guest;
    private readonly CapturingStrategy _strategy = new();
    private readonly CallGenerator[] _generators;
    private readonly FuzzBatch[] _batches = new FuzzBatch[FuzzMap.Vcpus];

    public FuzzRun(FuzzGuest guest, int seed)
    {
        _guest = guest;
        var configuration = new VmConfiguration
        {
            Name = $"fuzz-{seed}",
            Id = Guid.NewGuid(),
            CreationTime = DateTimeOffset.UtcNow,
            Strategy = "Para",
            Memory = 16 << 20,
            ProcessorCount = FuzzMap.Vcpus,
            Boot = new BootConfiguration { Kind = BootKind.Ringlab },
            OnReset = GuestResetAction.Stop,
        };
        var builder = new MachineBuilder(configuration, new ListedParts([_strategy], [])) { Log = Log, Starter = new GuestBootStarter(embeddedXenGuest: () => guest.Image) };
        Machine = builder.Build();
        _generators = new CallGenerator[FuzzMap.Vcpus];
        Seed = seed;
    }

    public int Seed { get; }

    public Machine Machine { get; }

    public XenDomain Domain => _strategy.Domain!;

    public RunLog Log { get; } = new();

    /// <summary>
    /// Calls that records asked for and that were made. Not what the VMM counts: a guest that has lost its way may repeat one call for ever; nor the guest's own counters, which a call may spoil.
    /// </summary>
    public long Calls { get; private set; }

    /// <summary>Those among them that the VMM did not refuse.</summary>
    public long Accepted { get; private set; }

    /// <summary>Calls by number, as the VMM counts them.</summary>
    public unsafe void AddTo(long[] byNumber)
    {
        foreach (XenVcpu v in Domain.Vcpus)
        {
            for (int i = 0; i < RingCounters.HypercallCount; i++)
                byNumber[i] += (long)v.Cpu.Counters->Hypercalls[i];
        }
    }

    public bool SecondRuns => Read(1, FuzzMap.Enters) > 0;

    /// <summary>Powers on and waits until the guest stands ready. Paused: it never runs, for guests that only must not be touched.</summary>
    public unsafe void Start(bool paused = false)
    {
        Machine.PowerOn(startPaused: true);
        byte[] info = new byte[4096];
        Domain.Vcpus[0].Cpu.SynchronizeState();
        ulong startInfo = Domain.Vcpus[0].Cpu.State->Gpr[6] - FuzzMap.Base;
        Machine.Memory.TryRead(startInfo, info);
        ulong Field(int offset) => BinaryPrimitives.ReadUInt64LittleEndian(info.AsSpan(offset));
        var world = new FuzzWorld(_guest, Field(32), (Field(88) - FuzzMap.Base) >> 12, Field(96), Field(56), Field(72), Field(40) >> 12);
        for (int v = 0; v < FuzzMap.Vcpus; v++)
            _generators[v] = new CallGenerator((Seed * 31) + v, world, v);
        WriteSecondContext(world);
        if (!paused)
            Machine.Resume();
    }

    /// <summary>Feeds batches to all vCPUs that run, until there were so many or the guest has ended.</summary>
    public FuzzEnd Feed(int batches, Func<int, bool> afterEach)
    {
        ulong go = 0;
        for (int i = 0; i < batches; i++)
        {
            go++;
            if (!OwnsItsRecords())
                return FuzzEnd.LostItsRecords;
            int running = SecondRuns ? FuzzMap.Vcpus : 1;
            for (int v = 0; v < running; v++)
                Write(v, _batches[v] = _generators[v].Next(), i == 0 && v == 0);
            for (int v = 0; v < running; v++)
                Machine.Memory.TryWrite(FuzzMap.ControlOf(v) + FuzzMap.Go, go);
            FuzzEnd end = Wait(go, running);
            for (int v = 0; v < running; v++)
                Count(v, Read(v, FuzzMap.Done) == go ? FuzzMap.RecordsPerBatch : (int)Math.Min(Read(v, FuzzMap.Index), FuzzMap.RecordsPerBatch));
            if (end != FuzzEnd.Completed || !afterEach(i))
                return end;
        }

        return FuzzEnd.Completed;
    }

    /// <summary>A hash of all RAM.</summary>
    public byte[] HashMemory()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        byte[] page = new byte[1 << 16];
        for (ulong at = 0; at < Machine.Configuration.Memory; at += (ulong)page.Length)
        {
            Machine.Memory.TryRead(at, page);
            hash.AppendData(page);
        }

        return hash.GetHashAndReset();
    }

    public void Dispose() => Machine.Dispose();

    private FuzzEnd Wait(ulong go, int running)
    {
        long last = -1, since = Environment.TickCount64;
        while (true)
        {
            if (Machine.Completion.IsCompleted)
                return FuzzEnd.Stopped;
            // The second may have been taken down; only the first is waited for then.
            if (Enumerable.Range(0, running).All(v => Read(v, FuzzMap.Done) == go))
                return FuzzEnd.Completed;
            long progress = Enumerable.Range(0, running).Sum(v => (long)(Read(v, FuzzMap.Index) + Read(v, FuzzMap.Done)));
            if (progress != last)
                (last, since) = (progress, Environment.TickCount64);
            else if (Environment.TickCount64 - since > s_patience.TotalMilliseconds)
                return FuzzEnd.Stuck;
            Thread.Sleep(1);
        }
    }

    private void Count(int vcpu, int records)
    {
        byte[] after = new byte[records * FuzzMap.RecordBytes];
        Machine.Memory.TryRead(FuzzMap.RecordsOf(vcpu), after);
        for (int i = 0; i < records; i++)
        {
            if (!_batches[vcpu].IsCall(i))
                continue;
            Calls++;
            Accepted += BinaryPrimitives.ReadInt64LittleEndian(after.AsSpan((i * FuzzMap.RecordBytes) + 48)) >= 0 ? 1 : 0;
        }
    }

    // The test writes past the VMM: only into pages that are still plain memory.
    private unsafe bool OwnsItsRecords()
    {
        using MmuHold hold = Domain.EnterMmu(null);
        for (ulong frame = FuzzMap.Control >> 12; frame < FuzzMap.Victims >> 12; frame++)
        {
            Frame* f = Domain.Frames.Find(frame);
            if (f == null || f->Type is not (FrameType.None or FrameType.Writable))
                return false;
        }

        return true;
    }

    private void Write(int vcpu, FuzzBatch batch, bool bringUp)
    {
        if (bringUp)
        {
            // After the repairs: make the second vCPU, and let it go.
            (ulong Number, ulong A, ulong B, ulong C)[] calls = [(24, 0, 1, FuzzMap.Linear(FuzzMap.Victims)), (24, 1, 1, 0)];
            for (int i = 0; i < calls.Length; i++)
            {
                Span<byte> record = batch.Records.AsSpan((14 + i) * FuzzMap.RecordBytes);
                BinaryPrimitives.WriteUInt64LittleEndian(record, calls[i].Number);
                BinaryPrimitives.WriteUInt64LittleEndian(record[8..], calls[i].A);
                BinaryPrimitives.WriteUInt64LittleEndian(record[16..], calls[i].B);
                BinaryPrimitives.WriteUInt64LittleEndian(record[24..], calls[i].C);
                BinaryPrimitives.WriteUInt64LittleEndian(record[56..], FuzzMap.Linear(FuzzMap.StackTopOf(0)));
            }
        }

        Machine.Memory.TryWrite(FuzzMap.SlotOf(vcpu, 0), batch.Slots);
        Machine.Memory.TryWrite(FuzzMap.RecordsOf(vcpu), batch.Records);
    }

    /// <summary>struct vcpu_guest_context in the first victim pages.</summary>
    private void WriteSecondContext(FuzzWorld world)
    {
        byte[] c = new byte[5168];
        void Put(int offset, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(c.AsSpan(offset), value);
        Put(512, 4);
        Put(520 + 128, FuzzGuest.Entry(1));
        Put(520 + 136, 0xE033);
        Put(520 + 144, 0x200);
        Put(520 + 152, FuzzMap.Linear(FuzzMap.StackTopOf(1)));
        Put(520 + 160, 0xE02B);
        for (int v = 0; v < 32; v++)
        {
            c[720 + (v * 16)] = (byte)v;
            c[721 + (v * 16)] = 4;
            BinaryPrimitives.WriteUInt16LittleEndian(c.AsSpan(722 + (v * 16)), 0xE033);
            Put(728 + (v * 16), _guest.TrapHandler(1));
        }

        Put(4968, 0xE02B);
        Put(4976, FuzzMap.Linear(FuzzMap.StackTopOf(1)));
        Put(5008, world.RootFrame << 12);
        Put(5112, _guest.EventHandler(1));
        Put(5120, _guest.TrapHandler(1));
        Put(5128, _guest.TrapHandler(1));
        Machine.Memory.TryWrite(FuzzMap.Victims, c);
    }

    private ulong Read(int vcpu, int offset) => Machine.Memory.TryRead(FuzzMap.ControlOf(vcpu) + (ulong)offset, out ulong value) ? value : 0;

    /// <summary>Keeps the last lines.</summary>
    internal sealed class RunLog : ILog
    {
        private readonly Queue<string> _lines = new();

        public bool IsEnabled(LogLevel level) => level >= LogLevel.Information;

        public void Write(LogLevel level, string message)
        {
            lock (_lines)
            {
                // What the VMM says of a guest has no stack trace; a fault of its own has.
                Defect |= message.Contains("Exception", StringComparison.Ordinal) || message.Contains("   at ", StringComparison.Ordinal);
                // "platform: vCPU 1: what it did. RIP …": the part that is the same for all.
                if (level == LogLevel.Error && message.Split(". RIP")[0] is var said)
                    Reason ??= said;
                _lines.Enqueue($"{level}: {message}");
                if (_lines.Count > 40)
                    _lines.Dequeue();
            }
        }

        /// <summary>Why the VMM ended the guest, in its words.</summary>
        public string? Reason { get; private set; }

        public bool Defect { get; private set; }

        public override string ToString()
        {
            lock (_lines)
                return string.Join('\n', _lines);
        }
    }
}
