package elsewhere

import _ "gopkg.in/yaml.v3"
