using VirtPS.Bench;

// report <speed.json> [page.md]: prints the tables; with a page, replaces what stands there between the two marks and saves the picture beside it.
const string Begin = "<!-- speed: begin -->", End = "<!-- speed: end -->";
if (args.Length is < 1 or > 2)
{
    Console.Error.WriteLine("usage: report <speed.json> [page.md]");
    return 2;
}

SpeedRun run = SpeedRun.Read(args[0]);
Console.WriteLine(SpeedTable.Write(run, null));
if (args.Length == 1)
    return 0;
string page = File.ReadAllText(args[1]), picture = Path.ChangeExtension(args[1], ".svg");
int begin = page.IndexOf(Begin, StringComparison.Ordinal), end = page.IndexOf(End, StringComparison.Ordinal);
if (begin < 0 || end < begin)
{
    Console.Error.WriteLine($"{args[1]} lacks the marks {Begin} and {End}.");
    return 1;
}

SpeedPicture.Save(run, picture);
File.WriteAllText(args[1], $"{page[..begin]}{Begin}\n{SpeedTable.Write(run, Path.GetFileName(picture))}{page[end..]}");
return 0;
