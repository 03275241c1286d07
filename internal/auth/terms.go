package auth

import "encoding/json"

// Terms are the documents that people must accept to register, by policy ID.
//
// Spec: client-server-api#terms-of-service-at-registration
type Terms map[string]Policy

// Policy is one document in one version, in several languages.
type Policy struct {
	Version   string
	Languages map[string]PolicyText // by language code
}

// PolicyText is a document in one language.
type PolicyText struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

// params is the m.login.terms entry of a challenge's params.
func (t Terms) params() map[string]any {
	policies := make(map[string]any, len(t))
	for id, p := range t {
		policy := map[string]any{"version": p.Version}
		for language, text := range p.Languages {
			policy[language] = text
		}
		policies[id] = policy
	}
	return map[string]any{"policies": policies}
}

// versions is what is kept of an acceptance: the version of each document.
func (t Terms) versions() string {
	accepted := make(map[string]string, len(t))
	for id, p := range t {
		accepted[id] = p.Version
	}
	text, err := json.Marshal(accepted)
	if err != nil {
		panic(err) // strings can always be encoded
	}
	return string(text)
}
