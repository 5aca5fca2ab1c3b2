using K4os.Compression.LZ4;
using VirtPS.Engine.Boot;
using VirtPS.Sdk;

namespace VirtPS.Boot.Tests;

/// <summary>Reads from a frame of several blocks, of which whole ones and parts are decompressed at once: what comes out is what was put in, whatever was read before.</summary>
public sealed class Lz4FrameTests
{
    private const int BlockSize = 8 << 20;
    private static readonly byte[] s_content = MakeContent(3 * BlockSize + 1_234_567);
    private static readonly byte[] s_file = Compress(s_content);

    private static byte[] MakeContent(int length)
    {
        var random = new Random(7);
        byte[] content = new byte[length];
        // Runs of bytes that repeat, so that it is compressed, and differ from block to block.
        for (int at = 0; at < length;)
        {
            int n = Math.Min(random.Next(1, 4000), length - at);
            content.AsSpan(at, n).Fill((byte)random.Next());
            if (random.Next(3) == 0)
                random.NextBytes(content.AsSpan(at, Math.Min(n, 200)));
            at += n;
        }

        return content;
    }

    private static byte[] Compress(byte[] content)
    {
        var file = new MemoryStream();
        byte[] block = new byte[LZ4Codec.MaximumOutputSize(BlockSize)];
        for (int at = 0; at < content.Length; at += BlockSize)
        {
            int n = LZ4Codec.Encode(content.AsSpan(at, Math.Min(BlockSize, content.Length - at)), block);
            file.Write(BitConverter.GetBytes(n));
            file.Write(block.AsSpan(0, n));
        }

        return file.ToArray();
    }

    private static Lz4Frame Open(byte[] file) => new(GuestImage.FromBytes("frame", file), 0, (ulong)file.Length, (ulong)s_content.Length);

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Any_range_is_what_was_compressed(int seed)
    {
        var random = new Random(seed);
        Lz4Frame frame = Open(s_file);
        for (int i = 0; i < 3; i++)
            frame.Expect((ulong)random.Next(s_content.Length), random.Next(1, 3000));
        for (int i = 0; i < 25; i++)
        {
            int from = random.Next(4) == 0 ? random.Next(4) * BlockSize : random.Next(s_content.Length);
            int most = s_content.Length - from;
            int length = random.Next(4) switch { 0 => random.Next(1, 5000), 1 => random.Next(most) / BlockSize * BlockSize, _ => random.Next(most) };
            length = Math.Min(length, most);
            byte[] read = new byte[length];
            frame.Read((ulong)from, read);
            Assert.True(s_content.AsSpan(from, length).SequenceEqual(read), $"read {i}: {length} bytes at {from}");
        }
    }

    /// <summary>Parts of two blocks at once, each time of others.</summary>
    [Fact]
    public void Both_ends_of_a_range_may_lie_within_blocks()
    {
        Lz4Frame frame = Open(s_file);
        for (int i = 0; i < 30; i++)
        {
            int first = i % 3, last = i % 5 == 0 ? 3 : first + 1, from = (first * BlockSize) + 100_000 + i, end = Math.Min((last * BlockSize) + 900_000 + i, s_content.Length);
            byte[] read = new byte[end - from];
            frame.Read((ulong)from, read);
            Assert.True(s_content.AsSpan(from, read.Length).SequenceEqual(read), $"read {i}");
        }
    }

    [Fact]
    public void What_is_expected_is_kept_when_its_block_comes_by()
    {
        Lz4Frame frame = Open(s_file);
        frame.Expect(BlockSize + 100, 500);
        // Over a block's end it is not kept, but read all the same.
        frame.Expect((2ul * BlockSize) - 10, 20);
        frame.Read(0, new byte[3 * BlockSize]);
        byte[] kept = new byte[300], over = new byte[20];
        frame.Read(BlockSize + 200, kept);
        frame.Read((2ul * BlockSize) - 10, over);
        Assert.Equal(s_content.AsSpan(BlockSize + 200, 300).ToArray(), kept);
        Assert.Equal(s_content.AsSpan((2 * BlockSize) - 10, 20).ToArray(), over);
    }

    [Fact]
    public void A_damaged_block_is_named_and_the_others_can_still_be_read()
    {
        byte[] file = (byte[])s_file.Clone();
        int second = 4 + BitConverter.ToInt32(file, 0) + 4;
        file.AsSpan(second, 64).Fill(0xFF);
        Lz4Frame frame = Open(file);
        VirtException e = Assert.Throws<VirtException>(() => frame.Read(0, new byte[2 * BlockSize]));
        Assert.Equal("ImageInvalid", e.ErrorId);
        Assert.Contains($"0x{second:X}", e.Message, StringComparison.Ordinal);
        byte[] third = new byte[100];
        frame.Read((2ul * BlockSize) + 70_000, third);
        Assert.Equal(s_content.AsSpan((2 * BlockSize) + 70_000, 100).ToArray(), third);
    }
}
