package config

import (
	"crypto/rand"
	"encoding"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"stoa/matrix/roomversion"
)

// DefaultFile is the settings file that is read if none is named and it exists.
const DefaultFile = "stoa.yaml"

// Load reads the settings: the defaults, then file, then the variables of environ (in the
// form of os.Environ). An empty file name means DefaultFile if that exists.
//
// Warnings are sentences for the log. The error names every wrong setting, one a line.
func Load(file string, environ []string) (cfg *Config, warnings []string, err error) {
	cfg = &Config{}
	fields := settings(cfg)
	var wrong []error
	for _, f := range fields {
		if err := f.set(f.preset); err != nil {
			wrong = append(wrong, fmt.Errorf("default of %s: %w", f.key, err))
		}
	}
	if err := readFile(file, fields); err != nil {
		wrong = append(wrong, err)
	}
	warnings, err = readEnvironment(environ, fields)
	if err != nil {
		wrong = append(wrong, err)
	}
	if len(wrong) == 0 {
		wrong = append(wrong, cfg.complete()...)
		warnings = append(warnings, cfg.unused()...)
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, warnings, err
	}
	return cfg, warnings, nil
}

// setting is one field of a Config.
type setting struct {
	key, variable, preset string
	value                 reflect.Value
}

func settings(cfg *Config) []setting {
	v := reflect.ValueOf(cfg).Elem()
	all := make([]setting, v.NumField())
	for i := range all {
		tag := v.Type().Field(i).Tag
		all[i] = setting{tag.Get("yaml"), tag.Get("env"), tag.Get("default"), v.Field(i)}
	}
	return all
}

// set parses text as the type of the setting.
func (s setting) set(text string) error {
	switch to := s.value.Addr().Interface().(type) {
	case encoding.TextUnmarshaler:
		return to.UnmarshalText([]byte(text))
	case *string:
		*to = text
	case *Secret:
		*to = Secret(text)
	case *bool:
		switch text {
		case "true", "false":
			*to = text == "true"
		default:
			return fmt.Errorf("must be true or false, not %q", text)
		}
	case *[]netip.Prefix:
		all, err := parsePrefixes(text)
		if err != nil {
			return err
		}
		*to = all
	default:
		panic(fmt.Sprintf("setting %s has type %T, which Load can't read", s.key, to))
	}
	return nil
}

// readFile applies the settings in the file. A named file must exist.
func readFile(file string, fields []setting) error {
	name := file
	if name == "" {
		name = DefaultFile
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) && file == "" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return fmt.Errorf("read settings %s: %w", name, err)
	}
	if len(doc.Content) == 0 { // only comments
		return nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return fmt.Errorf("%s:%d: must be lines of the form name: value", name, root.Line)
	}
	var wrong []error
	seen := map[string]int{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if first, ok := seen[key.Value]; ok {
			wrong = append(wrong, fmt.Errorf("%s:%d: %s is already set in line %d", name, key.Line, key.Value, first))
			continue
		}
		seen[key.Value] = key.Line
		if err := setFromFile(fields, key.Value, value); err != nil {
			wrong = append(wrong, fmt.Errorf("%s:%d: %w", name, key.Line, err))
		}
	}
	return errors.Join(wrong...)
}

func setFromFile(fields []setting, key string, value *yaml.Node) error {
	i := slices.IndexFunc(fields, func(f setting) bool { return f.key == key })
	if i < 0 {
		return fmt.Errorf("there is no setting %s; did you mean %s? docs/settings.md lists all", key,
			nearest(key, fields, func(f setting) string { return f.key }))
	}
	text := value.Value
	switch value.Kind {
	case yaml.ScalarNode:
		if value.Tag == "!!null" {
			text = ""
		}
	case yaml.SequenceNode:
		var items []string
		for _, item := range value.Content {
			if item.Kind != yaml.ScalarNode {
				return fmt.Errorf("%s: must be a list of plain values", key)
			}
			items = append(items, item.Value)
		}
		switch fields[i].value.Interface().(type) {
		case Paths:
			text = strings.Join(items, string(filepath.ListSeparator))
		case []netip.Prefix, Hosts, HostPorts:
			text = strings.Join(items, ",")
		case Terms, Contacts:
			text = strings.Join(items, ";")
		default:
			return fmt.Errorf("%s: must be one value, not a list", key)
		}
	default:
		return fmt.Errorf("%s: must be a plain value", key)
	}
	if err := fields[i].set(text); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// testVariables are read by tests and their tools, not by the server.
var testVariables = []string{"STOA_TEST_", "STOA_FAULT", "STOA_BENCH_"}

func readEnvironment(environ []string, fields []setting) (warnings []string, err error) {
	var wrong []error
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, "STOA_") ||
			slices.ContainsFunc(testVariables, func(p string) bool { return strings.HasPrefix(name, p) }) {
			continue
		}
		i := slices.IndexFunc(fields, func(f setting) bool { return f.variable == name })
		if i < 0 {
			warnings = append(warnings, fmt.Sprintf("the environment variable %s is not a setting and does nothing; did you mean %s?",
				name, nearest(name, fields, func(f setting) string { return f.variable })))
			continue
		}
		if err := fields[i].set(value); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", name, err))
		}
	}
	return warnings, errors.Join(wrong...)
}

// complete fills in defaults that depend on other settings, and makes checks that the
// types can't make.
func (c *Config) complete() (wrong []error) {
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	for _, l := range []struct{ key, address string }{
		{"client_listen", c.ClientListen}, {"federation_listen", c.FederationListen},
		{"admin_listen", c.AdminListen}, {"cluster_listen", c.ClusterListen},
	} {
		if err := checkListen(l.address); err != nil {
			bad("%s: %w", l.key, err)
		}
	}
	if c.ClientListen == "" {
		bad("client_listen: must not be empty; 127.0.0.1:8008 is the default")
	}
	if c.FederationListen != "" && (c.TLSCert == "" || c.TLSKey == "") {
		bad("federation_listen: needs tls_cert and tls_key, since other servers speak HTTPS only")
	}
	if c.PublicURL == "" {
		c.PublicURL = publicURL(c.ClientListen)
	}
	if c.PublicURL != "" && !isAddress(c.PublicURL) {
		bad("public_url: %q must be an http:// or https:// address, such as https://matrix.example.org", c.PublicURL)
	}
	c.PublicURL = strings.TrimSuffix(c.PublicURL, "/")
	if c.SupportPage != "" && !isAddress(c.SupportPage) {
		bad("support_page: %q must be an http:// or https:// address", c.SupportPage)
	}
	if c.Instance == "" {
		c.Instance = instanceName()
	}
	if len(c.Instance) > 64 || strings.Trim(c.Instance, nameCharacters) != "" {
		bad("instance: %q may hold letters, digits, '.', '_' and '-', at most 64", c.Instance)
	}
	if c.DataDir == "" {
		bad("data_dir: must not be empty; ./data is the default")
	}
	if err := c.checkServerName(); err != nil {
		bad("server_name: %w", err)
	}
	if err := c.completeDatabase(); err != nil {
		bad("database: %w", err)
	}
	if err := checkRedis(c.Redis); err != nil {
		bad("redis: %w", err)
	}
	if c.SecretKey != "" && len(c.SecretKey) < 16 {
		bad("secret_key: must have at least 16 characters; `openssl rand -base64 32` makes a good one")
	}
	if rules, ok := roomversion.Of(c.RoomVersion); !ok || !rules.Stable {
		bad("room_version: %q is not a room version that this server knows", c.RoomVersion)
	}
	if !isScanner(c.MediaScanner) {
		bad("media_scanner: %q must be clamd:/PATH, clamd://HOST:PORT, or an http:// or https:// address", c.MediaScanner)
	}
	if c.MediaMaxUpload < 1 {
		bad("media_max_upload: must be at least 1 byte")
	}
	if c.MediaBucket != "" && (c.MediaBucketAccessKey == "" || c.MediaBucketSecretKey == "") {
		bad("media_bucket: needs media_bucket_access_key and media_bucket_secret_key")
	}
	c.checkCalls(bad)
	if err := c.checkMail(); err != nil {
		wrong = append(wrong, err)
	}
	if c.MailBounceSecret != "" && len(c.MailBounceSecret) < 16 {
		bad("mail_bounce_secret: must have at least 16 characters; `openssl rand -base64 32` makes a good one")
	}
	if c.LogMaxSize < 1<<20 {
		bad("log_max_size: must be at least 1MiB")
	}
	return wrong
}

const nameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

// ControlSocket is the path of the socket for commands.
func (c *Config) ControlSocket() string { return filepath.Join(c.DataDir, "stoa.sock") }

func checkListen(address string) error {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if path == "" {
			return errors.New("unix: needs the path of a socket file")
		}
		return nil
	}
	if address == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q must be host:port, [IPv6]:port, :port or unix:PATH", address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q must end with a port, a number up to 65535", address)
	}
	return nil
}

// publicURL guesses the address of the listener for clients on this machine.
func publicURL(listen string) string {
	if strings.HasPrefix(listen, "unix:") {
		return "http://localhost"
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "" // checkListen has reported it
	}
	if a, err := netip.ParseAddr(host); host == "" || (err == nil && a.IsUnspecified()) {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}

func instanceName() string {
	var b [3]byte
	rand.Read(b[:]) // never fails
	host, err := os.Hostname()
	if err != nil {
		host = "stoa" // the name is for people; the random part makes it unique
	}
	host, _, _ = strings.Cut(host, ".")
	host = strings.Map(func(r rune) rune {
		if strings.ContainsRune(nameCharacters, r) {
			return r
		}
		return '-'
	}, host)
	return host[:min(len(host), 50)] + "-" + hex.EncodeToString(b[:])
}

// nearest returns the known name with the smallest edit distance.
func nearest(name string, fields []setting, nameOf func(setting) string) string {
	best, least := "", int(^uint(0)>>1)
	for _, f := range fields {
		if d := distance(name, nameOf(f)); d < least {
			best, least = nameOf(f), d
		}
	}
	return best
}

// distance counts the insertions, deletions and replacements from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := corner
			if a[i] != b[j] {
				next = 1 + min(corner, row[j], row[j+1])
			}
			corner, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

func isScanner(address string) bool {
	if address == "" || isAddress(address) {
		return true
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "clamd" || u.User != nil || u.RawQuery != "" {
		return false
	}
	return u.Host == "" && strings.HasPrefix(u.Path, "/") || u.Hostname() != "" && u.Port() != "" && u.Path == ""
}
