package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// DatabaseIsFile reports whether the database is a file on this machine rather than a server.
func (c *Config) DatabaseIsFile() bool {
	return !strings.HasPrefix(c.Database, "postgres://") && !strings.HasPrefix(c.Database, "postgresql://")
}

// completeDatabase sets Database to the path of a file or the URL of a PostgreSQL server.
// A path that looks like a mistyped address is an error: otherwise it would start an
// empty server.
func (c *Config) completeDatabase() error {
	if c.Database == "" {
		c.Database = filepath.Join(c.DataDir, "stoa.db")
		return nil
	}
	if !c.DatabaseIsFile() {
		return checkPostgres(c.Database)
	}
	path, isSQLite := strings.CutPrefix(c.Database, "sqlite:")
	switch {
	case isSQLite && strings.HasPrefix(path, "//") && !strings.HasPrefix(path, "///"), path == "":
		return fmt.Errorf("%q names no file; write sqlite:PATH, such as sqlite:/var/lib/stoa/stoa.db", c.Database)
	case path == ":memory:":
		return errors.New("a database in memory would lose everything; give the path of a file")
	case !isSQLite && addressLike.MatchString(path):
		return fmt.Errorf("%q looks like a mistyped address; a PostgreSQL server is postgres://USER:PASSWORD@HOST/NAME, and sqlite:PATH takes any file name", hidePassword(path))
	case strings.HasSuffix(path, "/") || strings.HasSuffix(path, string(filepath.Separator)):
		return fmt.Errorf("%q is a folder; give the path of a file", c.Database)
	}
	c.Database = filepath.Clean(path)
	return nil
}

// addressLike matches texts that nobody means as the path of a file: a scheme (of two
// letters or more, since C: is a drive), a user before a host, name=value pairs,
// host:port, and SQLite's :memory:.
var addressLike = regexp.MustCompile(`^\s|\s$|://|^[A-Za-z][A-Za-z0-9+.-]+:|@|^[a-z_]+ *=|:[0-9]+(/|$)`)

var passwords = regexp.MustCompile(`(password *= *)\S+|(:)[^:@]*(@)`)

func hidePassword(address string) string {
	return passwords.ReplaceAllString(address, "${1}${2}(hidden)${3}")
}

func checkPostgres(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("%q is not a PostgreSQL address; write postgres://USER:PASSWORD@HOST/NAME, special characters of the password as %%XX", hidePassword(address))
	}
	if strings.Trim(u.Path, "/") == "" && !u.Query().Has("dbname") {
		return fmt.Errorf("%q names no database; write postgres://USER:PASSWORD@HOST/NAME", hidePassword(address))
	}
	return nil
}

func checkRedis(address string) error {
	if address == "" {
		return nil
	}
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "unix" || u.Path == "") && ((u.Scheme != "redis" && u.Scheme != "rediss") || u.Host == "") {
		return fmt.Errorf("%q is not a Redis address; write redis://HOST:6379, or unix:///PATH for a socket", hidePassword(address))
	}
	return nil
}

// checkServerName refuses names that can't exist on the internet, although the grammar of
// server names allows them.
func (c *Config) checkServerName() error {
	name := c.ServerName
	if port := name.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("%q: the port must be between 1 and 65535", name)
		}
	}
	if name.IsIPLiteral() {
		return nil
	}
	for label := range strings.SplitSeq(name.Host(), ".") {
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return fmt.Errorf("%q is not the name of a host; use a domain name of yours, such as example.org", name)
		}
	}
	if last := name.Host()[strings.LastIndexByte(name.Host(), '.')+1:]; strings.Trim(last, "0123456789") == "" {
		if _, err := netip.ParseAddr(name.Host()); err != nil {
			return fmt.Errorf("%q is neither an address nor the name of a host; use a domain name of yours, such as example.org", name)
		}
	}
	return nil
}

// unused warns of settings without an effect in this configuration.
func (c *Config) unused() (warnings []string) {
	for _, s := range []struct {
		key string
		set bool
		why string
	}{
		{"redis", c.Redis != "" && c.DatabaseIsFile(), "a SQLite database has one instance; several need PostgreSQL in database"},
		{"appservices", len(c.AppServices) > 0, "application services are not served yet"},
		{"federation_listen", c.FederationListen != "", "federation is not served yet: everything is answered with 404"},
		{"federation_ca", c.FederationCA != "", "federation is not served yet"},
	} {
		if s.set {
			warnings = append(warnings, s.key+" is set and does nothing: "+s.why)
		}
	}
	return warnings
}
