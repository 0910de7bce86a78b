package commands

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// Where a setting's value came from.
const (
	originFlag        = "flag"
	originEnvironment = "environment"
	originFile        = "config file"
	originDefault     = "default"
)

// Setting is one line of the flag table of a command that runs as a daemon.
type Setting struct {
	// Name is the flag, the key in the config file and, in upper case with
	// underscores behind ETCD_, the variable.
	Name string
	// Default may hold ${name}, which stands for the value of "name".
	Default string
	// Usage is one line for help. A word in backquotes stands for the value.
	Usage string
	// Bool flags need no value.
	Bool bool
	// Values, if any, are the only ones.
	Values []string
	// Also are values that are accepted besides and not shown.
	Also []string
	// Ignored is for a flag of an etcd member: accepted, without a meaning,
	// and not shown.
	Ignored bool
}

// Settings are the values of a flag table, each from the first of flag,
// environment, config file and default that has one.
type Settings struct {
	table  map[string]Setting
	flag   func(name string) (value string, found bool)
	getenv func(name string) string
	path   string            // of the config file; empty without one
	file   map[string]string // what it says, by setting
	others bool              // keys of the file that are not in the table are somebody else's
	own    map[string]ownFlag
}

// loadSettings reads the config file, if one is named, and checks every value
// that has a fixed set of values.
func loadSettings(table []Setting, flag func(name string) (string, bool), getenv func(string) string) (*Settings, error) {
	s := &Settings{table: make(map[string]Setting, len(table)), flag: flag, getenv: getenv}
	for _, setting := range table {
		s.table[setting.Name] = setting
	}
	if err := s.readConfigFile(); err != nil {
		return nil, err
	}
	for _, setting := range table {
		if setting.Ignored || len(setting.Values) == 0 {
			continue
		}
		value, _ := s.Lookup(setting.Name)
		choice := ChoiceFlag{Values: setting.Values, Also: setting.Also}
		if err := choice.check(s.Where(setting.Name), value); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// setFlags reads the flags of the command that runs.
func setFlags(c *cli.Context) func(name string) (string, bool) {
	return func(name string) (string, bool) {
		if !c.IsSet(name) {
			return "", false
		}
		return fmt.Sprint(c.Value(name)), true
	}
}

// settingFlags makes a table's flags.
func settingFlags(table []Setting) []cli.Flag {
	flags := make([]cli.Flag, 0, len(table))
	for _, s := range table {
		text := cli.StringFlag{Name: s.Name, Value: s.Default, Usage: s.Usage, Hidden: s.Ignored}
		switch {
		case s.Bool:
			flags = append(flags, &switchFlag{cli.BoolFlag{Name: s.Name, Usage: s.Usage, Hidden: s.Ignored}})
		case len(s.Values) > 0:
			flags = append(flags, &ChoiceFlag{StringFlag: text, Values: s.Values, Also: s.Also})
		default:
			flags = append(flags, &textFlag{text})
		}
	}
	return flags
}

// variable is the environment's twin of a flag.
func variable(name string) string {
	return "ETCD_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// Lookup returns a setting's value and where it came from. As with etcd, an
// empty variable is one that is not set. A name that is not in the table is a
// bug of the caller, and panics.
func (s *Settings) Lookup(name string) (value, origin string) {
	setting, known := s.table[name]
	if !known {
		panic("setting is not in the table: " + name)
	}
	if value, found := s.flag(name); found {
		return value, originFlag
	}
	if value := s.getenv(variable(name)); value != "" {
		return value, originEnvironment
	}
	if value, found := s.file[name]; found {
		return value, originFile
	}
	value = setting.Default
	if strings.Contains(value, "${name}") {
		own, _ := s.Lookup("name")
		value = strings.ReplaceAll(value, "${name}", own)
	}
	return value, originDefault
}

// IsSet says whether anybody gave a value, so that it is not the default.
func (s *Settings) IsSet(name string) bool {
	_, origin := s.Lookup(name)
	return origin != originDefault
}

// Where names what the operator has to change: --flag, the variable, or the
// key and the file.
func (s *Settings) Where(name string) string {
	value, origin := s.Lookup(name)
	if own, found := s.own[name]; found && (own.value != "" || value == "") {
		return own.name
	}
	switch origin {
	case originEnvironment:
		return variable(name)
	case originFile:
		return fmt.Sprintf("%s in %s", name, s.path)
	default:
		return dashed(name)
	}
}

// Bad makes the usage error for a setting whose value is wrong: problem
// follows the name of the flag, variable or key, and hint says what to write.
func (s *Settings) Bad(name, hint, problem string, args ...any) error {
	return usageError(hint, "%s: %s", s.Where(name), fmt.Sprintf(problem, args...))
}

// ownFlag is a command's own flag that stands for a setting.
type ownFlag struct{ name, value string }

// with returns settings in which the given values, where not empty, stand as if
// flags had given them. Errors name the command's own flags.
func (s *Settings) with(own map[string]ownFlag) *Settings {
	changed := *s
	changed.own = own
	changed.flag = func(name string) (string, bool) {
		if value := own[name].value; value != "" {
			return value, true
		}
		return s.flag(name)
	}
	return &changed
}

// String returns a setting's value.
func (s *Settings) String(name string) string {
	value, _ := s.Lookup(name)
	return value
}

// List returns the parts of a value that commas separate, without blanks and
// empty parts.
func (s *Settings) List(name string) []string {
	var list []string
	for part := range strings.SplitSeq(s.String(name), ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// Bool returns a boolean setting; no value means false.
func (s *Settings) Bool(name string) (bool, error) {
	value := s.String(name)
	if value == "" {
		return false, nil
	}
	yes, err := strconv.ParseBool(value)
	if err != nil {
		return false, s.Bad(name, fmt.Sprintf("set %s to true or false", s.Where(name)), "%q is neither true nor false", value)
	}
	return yes, nil
}

// Int returns a setting that is a whole number and not negative.
func (s *Settings) Int(name string) (int, error) {
	value := s.String(name)
	number, err := strconv.Atoi(value)
	if err != nil || number < 0 {
		return 0, s.Bad(name, fmt.Sprintf("set %s to a whole number such as %s", s.Where(name), s.table[name].Default),
			"%q is not a number of at least 0", value)
	}
	return number, nil
}

// Duration returns a setting that is a time: a plain number is milliseconds,
// as etcd's proxy flags are, anything else is a Go duration.
func (s *Settings) Duration(name string) (time.Duration, error) {
	value := s.String(name)
	duration, err := parseDuration(value)
	hint := fmt.Sprintf("set %s to milliseconds or to a duration, such as 5000 or 5s", s.Where(name))
	if err != nil {
		return 0, s.Bad(name, hint, "%q is not a duration", value)
	}
	if duration < 0 {
		return 0, s.Bad(name, hint, "%q is negative", value)
	}
	return duration, nil
}

func parseDuration(value string) (time.Duration, error) {
	if _, err := strconv.Atoi(value); err == nil {
		value += "ms"
	}
	return time.ParseDuration(value)
}

// Level returns a setting that is a log level. etcd's levels above error count
// as error.
func (s *Settings) Level(name string) (slog.Level, error) {
	value := s.String(name)
	switch value {
	case "dpanic", "panic", "fatal":
		value = "error"
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(value)); err != nil {
		return 0, s.Bad(name, "write one of: debug, info, warn, error", "%q is not a log level", value)
	}
	return level, nil
}
