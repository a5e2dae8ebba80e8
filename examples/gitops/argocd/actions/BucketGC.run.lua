-- A cycle now: a new token in the annotation.
local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["s3gc.dev/run-requested-at"] = os.date("!%Y-%m-%dT%H:%M:%SZ")
return obj
