namespace VirtPS.Engine.Tests;

public class DeviceLockTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Never_two_at_once(bool biased)
    {
        var gate = new DeviceLock(biased);
        long plain = 0, ownerCount = 0;
        bool stop = false;
        int inside = 0, violations = 0;
        void Work()
        {
            gate.Enter();
            gate.Enter();
            if (++inside != 1)
                violations++;
            plain++;
            inside--;
            gate.Exit();
            gate.Exit();
        }

        var owner = new Thread(() =>
        {
            gate.AdoptCurrentThread();
            while (!Volatile.Read(ref stop))
            {
                Work();
                ownerCount++;
            }

            gate.ReleaseThread();
        });
        owner.Start();
        long others = 0;
        var threads = Enumerable.Range(0, 2).Select(_ => new Thread(() =>
        {
            for (int i = 0; i < 5_000; i++)
                Work();
            Interlocked.Add(ref others, 5_000);
        })).ToList();
        threads.ForEach(t => t.Start());
        threads.ForEach(t => t.Join());
        Volatile.Write(ref stop, true);
        owner.Join();
        Assert.Equal(0, violations);
        Assert.Equal(ownerCount + others, plain);
        Assert.True(ownerCount > 0);
    }

    [Fact]
    public void The_owner_waits_for_another_holder()
    {
        var gate = new DeviceLock(biased: true);
        gate.Enter();
        bool entered = false;
        var owner = new Thread(() =>
        {
            gate.AdoptCurrentThread();
            using (gate.Hold())
                Volatile.Write(ref entered, true);
            gate.ReleaseThread();
        });
        owner.Start();
        Assert.False(owner.Join(50));
        Assert.False(Volatile.Read(ref entered));
        gate.Exit();
        Assert.True(owner.Join(5000));
    }
}
