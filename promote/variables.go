package promote

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Formats in which Variables are printed.
const (
	// FormatShell is for a POSIX shell: pasted, or sourced.
	FormatShell = "shell"
	// FormatEnvFile is for systemd's EnvironmentFile=. docker's and podman's
	// --env-file read it too, where no value needs quotes: they take quotes
	// and backslashes as they stand. Names, URLs and paths without blanks at
	// an end, backslashes or a quote in front need none.
	FormatEnvFile = "env-file"
	// FormatSystemd is for the [Service] section of a unit or a drop-in.
	FormatSystemd = "systemd"
	// FormatJSON is one object with the variables and what to unset.
	FormatJSON = "json"
)

// Variable is one ETCD_ variable of the member to be.
type Variable struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Variables are an etcd's settings as it finds them in its environment. Their
// order is kept.
type Variables []Variable

// Environ returns the variables as NAME=value.
func (v Variables) Environ() []string {
	environ := make([]string, len(v))
	for i, one := range v {
		environ[i] = one.Name + "=" + one.Value
	}
	return environ
}

// With returns a copy in which more stand too, in the place of those of the
// same name or at the end.
func (v Variables) With(more ...Variable) Variables {
	all := slices.Clone(v)
	for _, one := range more {
		same := func(old Variable) bool { return old.Name == one.Name }
		if i := slices.IndexFunc(all, same); i >= 0 {
			all[i] = one
		} else {
			all = append(all, one)
		}
	}
	return all
}

// Format writes the variables, and the names that must not be set beside them,
// in one of the formats. A value that not all formats can hold is refused: one
// with a control character, or that is not UTF-8.
func (v Variables) Format(w io.Writer, format string, unset []string) error {
	if err := v.check(unset); err != nil {
		return err
	}
	var text bytes.Buffer
	switch format {
	case FormatShell:
		v.formatShell(&text, unset)
	case FormatEnvFile:
		v.formatEnvFile(&text, unset)
	case FormatSystemd:
		v.formatSystemd(&text, unset)
	case FormatJSON:
		v.formatJSON(&text, unset)
	default:
		return fmt.Errorf("unknown format %q", format)
	}
	_, err := w.Write(text.Bytes())
	return err
}

// variableNamePattern is what systemd and every shell take for a name.
var variableNamePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (v Variables) check(unset []string) error {
	for _, name := range unset {
		if !variableNamePattern.MatchString(name) {
			return fmt.Errorf("%q is no name of a variable", name)
		}
	}
	for _, one := range v {
		switch {
		case !variableNamePattern.MatchString(one.Name):
			return fmt.Errorf("%q is no name of a variable", one.Name)
		case !utf8.ValidString(one.Value):
			return fmt.Errorf("the value of %s is not UTF-8: %q", one.Name, one.Value)
		case strings.ContainsFunc(one.Value, unicode.IsControl):
			return fmt.Errorf("the value of %s has a control character: %q", one.Name, one.Value)
		}
	}
	return nil
}

func (v Variables) formatShell(text *bytes.Buffer, unset []string) {
	if len(unset) > 0 {
		fmt.Fprintf(text, "unset %s\n", strings.Join(unset, " "))
	}
	for _, one := range v {
		fmt.Fprintf(text, "export %s='%s'\n", one.Name, strings.ReplaceAll(one.Value, "'", `'\''`))
	}
}

func (v Variables) formatEnvFile(text *bytes.Buffer, unset []string) {
	for _, name := range unset {
		fmt.Fprintf(text, "# must not be set: %s\n", name)
	}
	for _, one := range v {
		fmt.Fprintf(text, "%s=%s\n", one.Name, quoteEnvFile(one.Value))
	}
}

// quoteEnvFile quotes by systemd's rules (systemd.exec, EnvironmentFile=), and
// only where they ask for it: in front and at the end blanks are dropped, a
// quote in front begins a quoted value, and a backslash escapes.
func quoteEnvFile(value string) string {
	switch {
	case value == strings.TrimSpace(value) && !strings.ContainsRune(value, '\\') && !strings.HasPrefix(value, "'") && !strings.HasPrefix(value, `"`):
		return value
	case !strings.ContainsRune(value, '\''):
		return "'" + value + "'"
	default:
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", "$", `\$`).Replace(value) + `"`
	}
}

func (v Variables) formatSystemd(text *bytes.Buffer, unset []string) {
	if len(unset) > 0 {
		fmt.Fprintf(text, "UnsetEnvironment=%s\n", strings.Join(unset, " "))
	}
	for _, one := range v {
		fmt.Fprintf(text, "Environment=%s\n", quoteUnit(one.Name+"="+one.Value))
	}
}

// quoteUnit quotes one word of a unit's line (systemd.syntax, Quoting) and
// keeps systemd from seeing specifiers in it (systemd.unit, Specifiers).
func quoteUnit(word string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%").Replace(word) + `"`
}

func (v Variables) formatJSON(text *bytes.Buffer, unset []string) {
	// By hand, because a map of Go has no order.
	text.WriteString(`{"variables":{`)
	for i, one := range v {
		if i > 0 {
			text.WriteByte(',')
		}
		text.Write(jsonString(one.Name))
		text.WriteByte(':')
		text.Write(jsonString(one.Value))
	}
	text.WriteString(`},"unset":[`)
	for i, name := range unset {
		if i > 0 {
			text.WriteByte(',')
		}
		text.Write(jsonString(name))
	}
	text.WriteString("]}\n")
}

// jsonString leaves &, < and > as they are: nobody puts this into a web page.
func jsonString(s string) []byte {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(s) // a string in a buffer can't fail
	return bytes.TrimSuffix(text.Bytes(), []byte("\n"))
}
