package main

import (
	"errors"
	"fmt"
	"go/ast"
	"reflect"
	"strconv"
	"strings"

	"stoa/internal/devtools/source"
)

// setting is one field of config.Config as its manual needs it.
type setting struct {
	key, variable, preset string
	manual                []string // lines of the comment
}

// readSettings reads the fields of config.Config with their comments.
func readSettings(repo *source.Repository) ([]setting, error) {
	var all []setting
	for _, p := range repo.Packages {
		if p.Dir != "internal/config" {
			continue
		}
		for _, f := range p.Files {
			ast.Inspect(f.AST, func(n ast.Node) bool {
				spec, ok := n.(*ast.TypeSpec)
				if !ok || spec.Name.Name != "Config" {
					return true
				}
				fields, ok := spec.Type.(*ast.StructType)
				if !ok {
					return true
				}
				for _, field := range fields.Fields.List {
					all = append(all, readSetting(field))
				}
				return false
			})
		}
	}
	if len(all) == 0 {
		return nil, errors.New("no struct Config in internal/config")
	}
	for _, s := range all {
		if len(s.manual) == 0 {
			return nil, fmt.Errorf("the setting %s has no comment, and the comment is its manual", s.key)
		}
	}
	return all, nil
}

func readSetting(field *ast.Field) setting {
	text, err := strconv.Unquote(field.Tag.Value)
	if err != nil {
		text = ""
	}
	tag := reflect.StructTag(text)
	s := setting{key: tag.Get("yaml"), variable: tag.Get("env"), preset: tag.Get("default")}
	for line := range strings.Lines(field.Doc.Text()) {
		s.manual = append(s.manual, strings.TrimSpace(line))
	}
	return s
}

// sampleFile is a settings file in which each setting stands as a comment with
// its default.
func sampleFile(all []setting) string {
	var b strings.Builder
	b.WriteString(`# Settings of Stoa. Generated from internal/config/settings.go by 'make generate'.
#
# No setting is required. To change a default, remove the # in front of its line.
# The environment variable named with a setting overrides this file. The server
# reads all settings once, when it starts.
`)
	for _, s := range all {
		b.WriteString("\n")
		for _, line := range s.manual {
			b.WriteString("# " + line + "\n")
		}
		fmt.Fprintf(&b, "# Environment: %s\n#%s: %s\n", s.variable, s.key, yamlValue(s.preset))
	}
	return b.String()
}

func yamlValue(preset string) string {
	if preset == "" {
		return `""`
	}
	if _, err := strconv.ParseFloat(preset, 64); err == nil || preset == "on" || preset == "off" {
		return strconv.Quote(preset)
	}
	return preset
}

func settingsPage(all []setting) string {
	var b strings.Builder
	b.WriteString(`# Settings

Generated from the comments in ` + "`internal/config/settings.go`" + ` by ` + "`make generate`" + `.

` + "`stoa serve`" + ` needs no settings. A YAML file (` + "`stoa.yaml`" + ` in the working directory, or
` + "`--config FILE`" + `) overrides the defaults, and environment variables override the file. An
unknown key in the file is an error that names the nearest known key; an unknown ` + "`STOA_`" + `
variable is a warning. The server reads all settings once, when it starts.
` + "`stoa.example.yaml`" + ` lists them all.

| key | variable | default |
|---|---|---|
`)
	for _, s := range all {
		preset := "(empty)"
		if s.preset != "" {
			preset = "`" + s.preset + "`"
		}
		fmt.Fprintf(&b, "| [`%s`](#%s) | `%s` | %s |\n", s.key, s.key, s.variable, preset)
	}
	for _, s := range all {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", s.key, strings.Join(s.manual, "\n"))
	}
	return b.String()
}
