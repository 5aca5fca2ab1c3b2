using System.Collections.ObjectModel;
using System.Globalization;
using System.Management.Automation;
using System.Management.Automation.Host;
using System.Security;

namespace VirtPS.Shell.Hosting;

/// <summary>The asking half of the user interface: lines, secrets, fields, choices.</summary>
internal sealed partial class ShellHostUI
{
    public override string ReadLine()
    {
        RequireInteractive("Read-Host");
        _progress.Hide();
        string? line = Console.In.ReadLine();
        AtLineStart = true;
        return line ?? "";
    }

    public override SecureString ReadLineAsSecureString()
    {
        RequireInteractive("Read-Host");
        var secret = new SecureString();
        foreach (char c in ReadHidden())
        {
            secret.AppendChar(c);
        }
        secret.MakeReadOnly();
        return secret;
    }

    /// <summary>Reads a line without showing it; a star per character where a terminal shows it.</summary>
    internal string ReadHidden()
    {
        _progress.Hide();
        if (!TerminalInfo.InputIsTerminal)
        {
            return Console.In.ReadLine() ?? "";
        }
        var text = new System.Text.StringBuilder();
        while (true)
        {
            ConsoleKeyInfo key = Console.ReadKey(intercept: true);
            if (key.Key == ConsoleKey.Enter)
            {
                Console.Out.WriteLine();
                AtLineStart = true;
                return text.ToString();
            }
            if (key.Key == ConsoleKey.Backspace)
            {
                if (text.Length > 0)
                {
                    text.Length--;
                    Console.Out.Write("\b \b");
                }
            }
            else if (!char.IsControl(key.KeyChar))
            {
                text.Append(key.KeyChar);
                Console.Out.Write('*');
            }
        }
    }

    public override Dictionary<string, PSObject> Prompt(string caption, string message, Collection<FieldDescription> descriptions)
    {
        RequireInteractive("A prompt for missing parameters");
        WriteCaption(caption, message);
        var answers = new Dictionary<string, PSObject>(StringComparer.OrdinalIgnoreCase);
        foreach (FieldDescription field in descriptions)
        {
            answers[field.Name] = AskField(field);
        }
        return answers;
    }

    private PSObject AskField(FieldDescription field)
    {
        Type type = Type.GetType(field.ParameterAssemblyFullName, throwOnError: false) ?? typeof(string);
        string label = field.Name;
        if (type == typeof(SecureString))
        {
            Write($"{label}: ");
            return PSObject.AsPSObject(ReadLineAsSecureString());
        }
        if (type == typeof(PSCredential))
        {
            return PSObject.AsPSObject(PromptForCredential("", "", "", ""));
        }
        if (type.IsArray || typeof(System.Collections.IList).IsAssignableFrom(type))
        {
            return PSObject.AsPSObject(AskList(label, type.GetElementType() ?? typeof(object)));
        }
        while (true)
        {
            Write($"{label}: ");
            string text = ReadLine();
            if (LanguagePrimitives.TryConvertTo(text, type, CultureInfo.CurrentCulture, out object? value))
            {
                return PSObject.AsPSObject(value ?? text);
            }
            WriteErrorLine($"'{text}' is not a {type.Name}.");
        }
    }

    private object[] AskList(string label, Type elementType)
    {
        var items = new List<object>();
        while (true)
        {
            Write($"{label}[{items.Count}]: ");
            string text = ReadLine();
            if (text.Length == 0)
            {
                return items.ToArray();
            }
            if (LanguagePrimitives.TryConvertTo(text, elementType, CultureInfo.CurrentCulture, out object? value))
            {
                items.Add(value);
            }
            else
            {
                WriteErrorLine($"'{text}' is not a {elementType.Name}.");
            }
        }
    }

    public override int PromptForChoice(string caption, string message, Collection<ChoiceDescription> choices, int defaultChoice)
    {
        RequireInteractive(string.IsNullOrEmpty(caption) ? "A choice" : caption);
        WriteCaption(caption, message);
        var keys = choices.Select(HotKey).ToArray();
        while (true)
        {
            for (int i = 0; i < choices.Count; i++)
            {
                string text = $"[{keys[i].Key}] {keys[i].Label}  ";
                if (i == defaultChoice)
                {
                    Write(ConsoleColor.Yellow, _rawUI.BackgroundColor, text);
                }
                else
                {
                    Write(text);
                }
            }
            Write(defaultChoice >= 0 && defaultChoice < choices.Count ? $"[?] Help (default is \"{keys[defaultChoice].Key}\"): " : "[?] Help: ");
            string? line = Console.In.ReadLine();
            AtLineStart = true;
            if (line is null)
            {
                throw new PSInvalidOperationException("Standard input ended while a question was open.");
            }
            string answer = line.Trim();
            if (answer.Length == 0 && defaultChoice >= 0)
            {
                return defaultChoice;
            }
            if (answer == "?")
            {
                for (int i = 0; i < choices.Count; i++)
                {
                    WriteLine($"{keys[i].Key} - {choices[i].HelpMessage}");
                }
                continue;
            }
            int found = Array.FindIndex(keys, k => answer.Equals(k.Key, StringComparison.OrdinalIgnoreCase) || answer.Equals(k.Label, StringComparison.OrdinalIgnoreCase));
            if (found >= 0)
            {
                return found;
            }
        }
    }

    private static (string Key, string Label) HotKey(ChoiceDescription choice)
    {
        int mark = choice.Label.IndexOf('&', StringComparison.Ordinal);
        string label = choice.Label.Replace("&", "", StringComparison.Ordinal);
        return mark >= 0 && mark < label.Length ? (char.ToUpperInvariant(label[mark]).ToString(), label) : (label, label);
    }

    public override PSCredential PromptForCredential(string caption, string message, string userName, string targetName) =>
        PromptForCredential(caption, message, userName, targetName, PSCredentialTypes.Default, PSCredentialUIOptions.Default);

    public override PSCredential PromptForCredential(
        string caption, string message, string userName, string targetName, PSCredentialTypes allowedCredentialTypes, PSCredentialUIOptions options)
    {
        RequireInteractive("A prompt for a credential");
        WriteCaption(caption, message);
        string name = userName ?? "";
        if (name.Length == 0)
        {
            Write("User: ");
            name = ReadLine();
        }
        Write($"Password for user {name}: ");
        return new PSCredential(name, ReadLineAsSecureString());
    }

    private void WriteCaption(string caption, string message)
    {
        if (!AtLineStart)
        {
            WriteLine();
        }
        if (!string.IsNullOrEmpty(caption))
        {
            WriteLine(caption);
        }
        if (!string.IsNullOrEmpty(message))
        {
            WriteLine(message);
        }
    }

    private void RequireInteractive(string what)
    {
        if (_nonInteractive)
        {
            throw new PSInvalidOperationException($"{what} needs a person: virtps was started with -NonInteractive.");
        }
    }
}
