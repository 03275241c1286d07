package config

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// write makes a settings file.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stoa.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad(t *testing.T) {
	t.Parallel()

	t.Run("needs_no_file", func(t *testing.T) {
		t.Parallel()
		c, warnings, err := Load("", nil)
		if err != nil || len(warnings) > 0 {
			t.Fatal(err, warnings)
		}
		if c.ServerName.String() != "localhost" || c.PublicURL != "http://127.0.0.1:8008" || c.Database != "data/stoa.db" ||
			c.Registration != RegistrationClosed || c.RateLimits != LimitsOn || c.LogMaxSize != 100<<20 || c.Instance == "" {
			t.Errorf("%+v", c)
		}
	})
	t.Run("lets_the_environment_win_over_the_file", func(t *testing.T) {
		t.Parallel()
		file := write(t, "server_name: file.example\nregistration: token\nlog_level: debug\n")
		c, _, err := Load(file, []string{"STOA_SERVER_NAME=env.example", "STOA_LOG_MAX_SIZE=2 GiB", "OTHER=x"})
		if err != nil {
			t.Fatal(err)
		}
		if c.ServerName.String() != "env.example" || c.Registration != RegistrationToken || c.LogLevel.Level() != slog.LevelDebug || c.LogMaxSize != 2<<30 {
			t.Errorf("%+v", c)
		}
	})
	t.Run("reads_lists_in_both_forms", func(t *testing.T) {
		t.Parallel()
		want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
		file := write(t, "trusted_proxies: [10.1.2.3/8, '::1']\nappservices: [a.yaml, b.yaml]\n")
		c, _, err := Load(file, nil)
		if err != nil || !reflect.DeepEqual(c.TrustedProxies, want) || !reflect.DeepEqual(c.AppServices, Paths{"a.yaml", "b.yaml"}) {
			t.Fatal(err, c)
		}
		c, _, err = Load(write(t, ""), []string{"STOA_TRUSTED_PROXIES=10.1.2.3/8, ::1", "STOA_APPSERVICES=a.yaml:b.yaml"})
		if err != nil || !reflect.DeepEqual(c.TrustedProxies, want) || !reflect.DeepEqual(c.AppServices, Paths{"a.yaml", "b.yaml"}) {
			t.Fatal(err, c)
		}
	})
	t.Run("reads_hosts", func(t *testing.T) {
		t.Parallel()
		c, _, err := Load(write(t, "url_preview_block: [Example.ORG, .example.net, '[::1]']\n"), []string{"STOA_URL_PREVIEW_ALLOW=a.example, b.example"})
		if err != nil || !reflect.DeepEqual(c.URLPreviewBlock, Hosts{"example.org", "example.net", "::1"}) || !reflect.DeepEqual(c.URLPreviewAllow, Hosts{"a.example", "b.example"}) {
			t.Fatal(err, c)
		}
		if _, _, err := Load("", []string{"STOA_URL_PREVIEW_BLOCK=https://example.org/"}); err == nil {
			t.Error("a URL is taken for a host")
		}
	})
	t.Run("warns_of_an_unknown_variable", func(t *testing.T) {
		t.Parallel()
		_, warnings, err := Load("", []string{"STOA_SERVERNAME=x", "STOA_TEST_POSTGRES=y"})
		if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "STOA_SERVER_NAME") {
			t.Fatal(err, warnings)
		}
	})
	t.Run("takes_unix_sockets_and_ipv6", func(t *testing.T) {
		t.Parallel()
		c, _, err := Load("", []string{"STOA_CLIENT_LISTEN=unix:/run/stoa.sock", "STOA_ADMIN_LISTEN=[::1]:9000"})
		if err != nil || c.PublicURL != "http://localhost" {
			t.Fatal(err, c)
		}
		c, _, err = Load("", []string{"STOA_CLIENT_LISTEN=[::]:8008"})
		if err != nil || c.PublicURL != "http://localhost:8008" {
			t.Fatal(err, c)
		}
	})
	t.Run("refuses_a_named_file_that_is_missing", func(t *testing.T) {
		t.Parallel()
		if _, _, err := Load(filepath.Join(t.TempDir(), "none.yaml"), nil); err == nil {
			t.Fatal("accepted")
		}
	})
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file string
		env  string
		says []string
	}{
		"an_unknown_key_and_names_the_nearest":  {"\nservername: a\n", "", []string{"stoa.yaml:2", "servername", "did you mean server_name?"}},
		"a_key_twice":                           {"log_level: info\nlog_level: debug\n", "", []string{"stoa.yaml:2", "line 1"}},
		"a_nested_value":                        {"database:\n  url: x\n", "", []string{"database", "plain value"}},
		"a_list_where_one_value_is_meant":       {"database: [a, b]\n", "", []string{"database", "not a list"}},
		"a_file_that_is_no_mapping":             {"- a\n", "", []string{"name: value"}},
		"a_file_that_is_no_yaml":                {"a: [\n", "", []string{"stoa.yaml"}},
		"a_server_name_outside_its_grammar":     {"", "STOA_SERVER_NAME=a_b/c", []string{"STOA_SERVER_NAME"}},
		"an_address_without_a_port":             {"", "STOA_CLIENT_LISTEN=localhost", []string{"client_listen", "host:port"}},
		"federation_without_a_certificate":      {"", "STOA_FEDERATION_LISTEN=:8448", []string{"tls_cert"}},
		"a_registration_that_does_not_exist":    {"", "STOA_REGISTRATION=maybe", []string{"closed, token, open"}},
		"a_room_version_that_does_not_exist":    {"", "STOA_ROOM_VERSION=99", []string{"room_version"}},
		"a_turn_server_that_is_a_web_address":   {"turn_secret: a\n", "STOA_TURN_URIS=https://turn.example.org", []string{"STOA_TURN_URIS", "turn:turn.example.org"}},
		"a_turn_server_without_its_secret":      {"", "STOA_TURN_URIS=turn:turn.example.org", []string{"turn_secret"}},
		"a_turn_secret_without_a_server":        {"turn_secret: a\n", "", []string{"turn_uris"}},
		"a_livekit_service_without_a_scheme":    {"", "STOA_RTC_LIVEKIT_URL=rtc.example.org", []string{"rtc_livekit_url"}},
		"a_short_secret_key":                    {"", "STOA_SECRET_KEY=abc", []string{"16 characters"}},
		"a_proxy_that_is_no_address":            {"", "STOA_TRUSTED_PROXIES=proxy", []string{"10.0.0.0/8"}},
		"a_boolean_that_is_none":                {"unsafe_database: maybe\n", "", []string{"true or false"}},
		"a_size_that_is_none":                   {"log_max_size: huge\n", "", []string{"100MiB"}},
		"a_scanner_that_is_no_address":          {"media_scanner: /run/clamd\n", "", []string{"media_scanner"}},
		"a_scanner_without_a_port":              {"", "STOA_MEDIA_SCANNER=clamd://host", []string{"media_scanner"}},
		"a_public_url_without_a_scheme":         {"public_url: matrix.example.org\n", "", []string{"public_url"}},
		"an_instance_that_is_no_header_value":   {"instance: 'a b'\n", "", []string{"instance"}},
		"several_at_once_and_names_them_all":    {"log_level: loud\nnothing: 1\n", "STOA_RATE_LIMITS=maybe", []string{"log_level", "nothing", "STOA_RATE_LIMITS"}},
		"a_switch_that_is_neither_on_nor_off":   {"", "STOA_QUERY_ACCESS_TOKENS=5", []string{"on or off"}},
		"limits_that_have_no_such_mode":         {"", "STOA_RATE_LIMITS=5", []string{"one of on, report, off"}},
		"a_size_that_does_not_fit_in_64_bits":   {"log_max_size: 99999999999GiB\n", "", []string{"100MiB"}},
		"a_database_of_another_kind":            {"", "STOA_DATABASE=mysql://a", []string{"database", "postgres://"}},
		"a_postgres_address_with_one_slash":     {"", "STOA_DATABASE=postgres:/stoa@h/db", []string{"database", "postgres://", "sqlite:PATH"}},
		"a_connection_string":                   {"database: 'host=db password=geheim dbname=stoa'\n", "", []string{"database", "postgres://"}},
		"a_host_and_port_as_database":           {"", "STOA_DATABASE=db:5432/stoa", []string{"database", "postgres://"}},
		"a_user_and_host_as_database":           {"", "STOA_DATABASE=stoa@db/stoa", []string{"database", "postgres://"}},
		"a_file_uri_as_database":                {"", "STOA_DATABASE=file:stoa.db?mode=memory", []string{"database", "sqlite:PATH"}},
		"a_database_in_memory":                  {"", "STOA_DATABASE=:memory:", []string{"database", "memory"}},
		"a_sqlite_host":                         {"", "STOA_DATABASE=sqlite://stoa.db", []string{"database", "sqlite:PATH"}},
		"a_sqlite_without_a_file":               {"", "STOA_DATABASE=sqlite:", []string{"database", "sqlite:PATH"}},
		"a_folder_as_database":                  {"", "STOA_DATABASE=data/", []string{"database", "file"}},
		"a_postgres_address_without_database":   {"", "STOA_DATABASE=postgres://stoa@db", []string{"database", "names no database"}},
		"a_postgres_address_that_is_none":       {"", "STOA_DATABASE=postgres://stoa:a%zz@db/stoa", []string{"database", "%XX"}},
		"a_redis_of_another_kind":               {"", "STOA_REDIS=localhost:6379", []string{"redis", "redis://"}},
		"a_server_name_of_a_hyphen":             {"", "STOA_SERVER_NAME=-", []string{"server_name", "example.org"}},
		"a_server_name_with_an_empty_label":     {"", "STOA_SERVER_NAME=a..org", []string{"server_name", "example.org"}},
		"a_server_name_with_too_high_a_port":    {"", "STOA_SERVER_NAME=a:99999", []string{"server_name", "65535"}},
		"a_server_name_that_is_half_an_address": {"", "STOA_SERVER_NAME=10.0.0", []string{"server_name", "example.org"}},
		"a_port_that_does_not_exist":            {"", "STOA_CLIENT_LISTEN=127.0.0.1:80080", []string{"client_listen", "65535"}},
		"an_empty_folder_for_data":              {"data_dir: ''\n", "", []string{"data_dir"}},
		"a_unix_socket_without_a_path":          {"client_listen: 'unix:'\n", "", []string{"path of a socket"}},
		"a_log_that_would_be_rotated_each_line": {"log_max_size: 10\n", "", []string{"1MiB"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := Load(write(t, c.file), strings.Fields(c.env))
			if err == nil {
				t.Fatal("accepted")
			}
			for _, word := range c.says {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %q", err, word)
				}
			}
			if strings.Contains(err.Error(), "geheim") {
				t.Errorf("%q shows a password", err)
			}
		})
	}
}

// One mistake must be told once: what follows from another setting is no second one.
func TestLoadNamesOneMistakeOnce(t *testing.T) {
	t.Parallel()
	for _, v := range []string{"STOA_CLIENT_LISTEN=localhost", "STOA_CLIENT_LISTEN=", "STOA_SERVER_NAME=-", "STOA_DATABASE=mysql://a"} {
		_, _, err := Load(write(t, ""), []string{v})
		if err == nil || strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("%s: %v", v, err)
		}
	}
}

func TestDatabase(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"":                               "data/stoa.db",
		"stoa.db":                        "stoa.db",
		"./stoa.db":                      "stoa.db",
		"/var/lib/stoa/a=b.db":           "/var/lib/stoa/a=b.db",
		"sqlite:stoa.db":                 "stoa.db",
		"sqlite:/var/lib/stoa.db":        "/var/lib/stoa.db",
		"sqlite:///var/lib/stoa.db":      "/var/lib/stoa.db",
		"sqlite:odd@name:1":              "odd@name:1",
		"postgres://u:p@h/db":            "postgres://u:p@h/db",
		"postgresql:///db?host=/run/pg":  "postgresql:///db?host=/run/pg",
		"postgres://u@a:5432,b:5432/db":  "postgres://u@a:5432,b:5432/db",
		"postgres://?dbname=a&host=/run": "postgres://?dbname=a&host=/run",
	} {
		c, _, err := Load(write(t, ""), []string{"STOA_DATABASE=" + given})
		if err != nil {
			t.Errorf("%q: %v", given, err)
		} else if c.Database != want {
			t.Errorf("%q is %q, not %q", given, c.Database, want)
		}
	}
}

func TestServerNamesThatMayBe(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"localhost", "example.org", "a.example.org:8448", "127.0.0.1", "[::1]:8448", "xn--mnchen-3ya.de", "1und1.de"} {
		if _, _, err := Load(write(t, ""), []string{"STOA_SERVER_NAME=" + name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLoadWarnsOfSettingsThatDoNothing(t *testing.T) {
	t.Parallel()
	for key, environ := range map[string][]string{
		"redis":             {"STOA_REDIS=redis://127.0.0.1:6379"},
		"appservices":       {"STOA_APPSERVICES=bridge.yaml"},
		"federation_listen": {"STOA_FEDERATION_LISTEN=:8448", "STOA_TLS_CERT=a", "STOA_TLS_KEY=b"},
		"federation_ca":     {"STOA_FEDERATION_CA=ca.pem"},
	} {
		_, warnings, err := Load(write(t, ""), environ)
		if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], key+" ") {
			t.Errorf("%s: %v %v", key, warnings, err)
		}
	}
	_, warnings, err := Load(write(t, ""), []string{"STOA_REDIS=redis://127.0.0.1:6379", "STOA_DATABASE=postgres://h/db"})
	if err != nil || len(warnings) != 0 {
		t.Error(warnings, err)
	}
}

func TestSecretIsNeverShown(t *testing.T) {
	t.Parallel()
	c, _, err := Load("", []string{"STOA_SECRET_KEY=correct horse battery"})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", c.SecretKey)
	for _, shown := range []string{fmt.Sprint(c.SecretKey), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c.SecretKey), log.String()} {
		if strings.Contains(shown, "horse") {
			t.Errorf("shown in %s", shown)
		}
	}
	if c.SecretKey.Reveal() != "correct horse battery" {
		t.Error("lost")
	}
}

// Every field must be a setting that the file and the environment can set.
func TestEverySettingHasItsNames(t *testing.T) {
	t.Parallel()
	for _, s := range settings(&Config{}) {
		if s.key == "" || s.variable != "STOA_"+strings.ToUpper(s.key) {
			t.Errorf("setting %q has the variable %q", s.key, s.variable)
		}
	}
}

// The sample file's lines, with their # taken away, must be the defaults.
func TestSampleFileHoldsTheDefaults(t *testing.T) {
	t.Parallel()
	sample, err := os.ReadFile("../../stoa.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for line := range strings.Lines(string(sample)) {
		if line, ok := strings.CutPrefix(line, "#"); ok && line != "" && line[0] != ' ' && line[0] != '\n' {
			text.WriteString(line)
		}
	}
	want, _, err := Load("", []string{"STOA_INSTANCE=same"})
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := Load(write(t, text.String()), []string{"STOA_INSTANCE=same"})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n%+v\n%+v", err, got, want)
	}
	if n := strings.Count(text.String(), "\n"); n != len(settings(&Config{})) {
		t.Errorf("%d settings in the sample file", n)
	}
}
